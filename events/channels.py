"""The names of the pub/sub channels, which others rely on. Redis ignores database numbers here: the name is all."""


def event_channel(namespace: str, name: str) -> str:
    """Where every event of a type is told: `MB:events:edit.opened`. `name` has neither prefix nor version."""
    return f"{namespace}:events:{name}"


def canary_channel(namespace: str, name: str) -> str:
    """Where who listens tells itself something, to know that it hears: `MB:canary:0f1e2d3c4b5a6978`."""
    return f"{namespace}:canary:{name}"


def editor_channel(namespace: str, editor_id: int) -> str:
    """Where one editor is told of what concerns them: `MB:notify:editor:123`."""
    return f"{namespace}:notify:editor:{editor_id}"
