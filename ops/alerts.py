"""What somebody should be woken for, as rules for Prometheus over the metrics of `ops.metrics`."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Alert:
    """`expr` has held for `minutes`. `text`: what is wrong, and what to do. `page`: at once, also at night."""

    name: str
    expr: str
    minutes: int
    text: str
    page: bool = False


def _rate(metric: str, minutes: int = 5) -> str:
    return f"rate({metric}[{minutes}m])"


_READS, _LOADS = "mbevents_cache_reads_total", "mbevents_cache_loads_total"
_WEB, _HTTP = "mbevents_web_requests_total", "mbevents_http_outcomes_total"
# Without them everything is read from the database.
_CACHES = "entities|search|statistics"
_DOCTOR = "`mbevents doctor` says what is wrong and how to mend it."

ALERTS: tuple[Alert, ...] = (
    Alert(
        "ServerAway",
        f'mbevents_server_up{{server!~"{_CACHES}"}} == 0',
        2,
        "The database or a role of Redis ({{ $labels.server }}) does not answer the web process. " + _DOCTOR,
        page=True,
    ),
    Alert(
        "CacheAway",
        f'mbevents_server_up{{server=~"{_CACHES}"}} == 0',
        10,
        "A cache ({{ $labels.server }}) does not answer the web process: the database is read instead. " + _DOCTOR,
    ),
    Alert("NoBridge", "absent(mbevents_bridge_leader == 1)", 2, "No bridge leads: nothing becomes events.", page=True),
    Alert(
        "LogStandsStill",
        "mbevents_log_age_seconds > 60",
        2,
        "The oldest change that is not published is {{ $value }} s old: the log of the bridge says what it waits for.",
        page=True,
    ),
    Alert("NoWorkers", "mbevents_workers == 0", 2, "No worker runs: caches are not invalidated.", page=True),
    Alert(
        "QueueOld",
        "mbevents_queue_age_seconds > 300",
        5,
        "Work in the queue {{ $labels.queue }} has waited for {{ $value }} s: start more workers, or see why "
        "(does no worker's --queues name it?).",
    ),
    Alert("DeadLetters", "mbevents_dead_letters > 0", 5, "Work failed for good: `mbevents jobs list`."),
    Alert(
        "RestartsAgainAndAgain",
        "changes(mbevents_start_time_seconds[15m]) > 3",
        0,
        "A process ends and is started again and again: its log says why.",
        page=True,
    ),
    Alert(
        "WebFails",
        f'sum by (route) ({_rate(_WEB + """{status="5xx"}""")}) > 0.05 * sum by (route) ({_rate(_WEB)})',
        5,
        "More than a twentieth of the answers to {{ $labels.route }} are 5xx. " + _DOCTOR,
        page=True,
    ),
    Alert(
        "CircuitFlaps",
        "increase(mbevents_circuit_openings_total[15m]) > 5",
        0,
        "{{ $labels.circuit }} answers, and then again does not: it is slow or full, or the network is bad.",
    ),
    Alert(
        "CacheUnavailable",
        f'sum by (kind) ({_rate(_READS + """{outcome="unavailable"}""")}) > 0',
        5,
        "The cache of {{ $labels.kind }} is not read: all of it is asked of PostgreSQL. " + _DOCTOR,
    ),
    Alert(
        "CacheLoadsFail",
        f'sum by (kind) ({_rate(_LOADS + """{outcome="failed"}""")}) > 0.1 * sum by (kind) ({_rate(_LOADS)})',
        5,
        "What the cache of {{ $labels.kind }} lacks cannot be loaded: PostgreSQL, or who is asked, is slow or away.",
    ),
    Alert(
        "SessionsUnavailable",
        f'sum({_rate("""mbevents_session_operations_total{outcome="unavailable"}""")}) > 0',
        2,
        "Who is signed in cannot be found out: nobody is, or 503 (SESSIONS_WITHOUT_REDIS). " + _DOCTOR,
        page=True,
    ),
    Alert(
        "NotLimited",
        f'sum by (scope) ({_rate("""mbevents_limit_decisions_total{outcome="unavailable_open"}""")}) > 0',
        5,
        "{{ $labels.scope }} is not limited: Redis of the limits does not answer. " + _DOCTOR,
    ),
    Alert(
        "LimitedClosed",
        f'sum by (scope) ({_rate("""mbevents_limit_decisions_total{outcome="unavailable_closed"}""")}) > 0',
        2,
        "All of {{ $labels.scope }} is refused: Redis of the limits does not answer. " + _DOCTOR,
        page=True,
    ),
    Alert(
        "FollowerBehind",
        "scalar(max(mbevents_head_position)) - mbevents_follower_position > 10000",
        5,
        "{{ $labels.follower }} is {{ $value }} events behind the log: it is stuck, or too slow to keep up.",
    ),
    Alert(
        "FollowerDeaf",
        "mbevents_follower_listening == 0",
        5,
        "{{ $labels.follower }} hears nothing of what is published, and looks every second: see Redis.",
    ),
    Alert(
        "OutsideFails",
        f'sum by (host) ({_rate(_HTTP + """{outcome!~"answer|cached|stale"}""", 15)}) '
        f"> 0.5 * sum by (host) ({_rate(_HTTP, 15)})",
        15,
        "More than half of the calls to {{ $labels.host }} fail: mbevents_http_outcomes_total says of what.",
    ),
    Alert(
        "FeedUnavailable",
        f'sum({_rate("""mbevents_feed_requests_total{status="503"}""")}) > 0',
        5,
        "Mirrors cannot fetch packets: the feed does not reach its database or its packets.",
    ),
    Alert(
        "ExportFails",
        "increase(mbevents_export_failures_total[3h]) > 2",
        0,
        "Packets are not made: captured rows stay until then, and the database grows.",
        page=True,
    ),
    Alert(
        "MirrorBehind",
        "mbevents_replication_lag_seconds > 10800 unless mbevents_replication_paused == 1",
        5,
        "The mirror's last packet is {{ $value }} s old, and there are newer ones: `mbevents replication status`.",
    ),
)


def rules() -> bytes:
    """For `rule_files` of Prometheus. Each text is JSON, which is YAML too."""
    lines = [
        "# Written by `make generate` from ops/alerts.py.",
        "# severity page: somebody should be woken; ticket: tomorrow will do.",
        "groups:",
        "  - name: mbevents",
        "    rules:",
    ]
    for each in ALERTS:
        lines += [
            f"      - alert: Mbevents{each.name}",
            f"        expr: {_quoted(each.expr)}",
            f"        for: {each.minutes}m",
            "        labels:",
            f"          severity: {'page' if each.page else 'ticket'}",
            "        annotations:",
            f"          summary: {_quoted(each.text)}",
        ]
    return "\n".join([*lines, ""]).encode()


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
