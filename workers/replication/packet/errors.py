"""What is wrong with a packet."""

from events.errors import MbeventsError


class PacketError(MbeventsError):
    """A packet that is not what it should be; nothing of it may be kept.

    Layers below the archive know neither the packet nor the member: whoever does adds it with `within`.
    """

    def __init__(self, reason: str, *, packet: str | None = None, member: str | None = None) -> None:
        super().__init__(": ".join(part for part in (packet, member, reason) if part))
        self.reason = reason
        self.packet = packet
        self.member = member

    def within(self, packet: str | None, member: str | None = None) -> "PacketError":
        """The same error with the names that it lacks."""
        return PacketError(self.reason, packet=self.packet or packet, member=self.member or member)
