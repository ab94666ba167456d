"""Whether replication is as it should be, in the form that monitoring reads. Pure."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from workers.replication.status.core import Master, Mirror, Status, span

Level = Literal["OK", "WARNING", "CRITICAL", "UNKNOWN"]
# As every monitoring system that runs Nagios's plugins takes them.
CODES: Mapping[Level, int] = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}
# As MetaBrainz's own check: packets are made every hour. In seconds, and in packets.
WARNING, CRITICAL = 2 * 3600.0, 6 * 3600.0
WARNING_PACKETS, CRITICAL_PACKETS = 2.0, 6.0


class Verdict(NamedTuple):
    """What a check says. `line` is one line, whatever is in the text."""

    level: Level
    text: str
    performance: str = ""

    @property
    def code(self) -> int:
        return CODES[self.level]

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level, "code": self.code, "text": self.told, "performance": self.performance}

    @property
    def told(self) -> str:
        return " ".join(self.text.replace("|", "/").split())

    @property
    def line(self) -> str:
        return f"{self.level} - {self.told}{self.performance and f'|{self.performance}'}"


def verdict(
    status: Status, *, warning: float | None = None, critical: float | None = None, by_packets: bool = False
) -> Verdict:
    """Whether replication is as it should be. Limits are seconds, or packets: what is above one is as bad as it says.

    A mirror is measured by the age of its last packet, or by how many it lacks; a master by the age of the oldest
    change that is in no packet yet.
    """
    usual = (WARNING_PACKETS, CRITICAL_PACKETS) if by_packets else (WARNING, CRITICAL)
    # Who gives one limit only means it, whatever the usual other one is.
    if critical is None:
        critical = usual[1] if warning is None else max(warning, usual[1])
    if warning is None:
        warning = min(usual[0], critical)
    if not 0 <= warning <= critical < math.inf:
        return Verdict("UNKNOWN", "the limits are wrong: -w must not be above -c, nor either of them below 0")
    limits = _Limits(warning, critical, by_packets)
    if status.mirror is not None:
        return _verdict_of_mirror(status, status.mirror, limits)
    if status.master is not None:
        return _verdict_of_master(status.master, limits)
    return Verdict("UNKNOWN", f"nothing is replicated: REPLICATION_TYPE is {status.mode}")


class _Limits(NamedTuple):
    warning: float
    critical: float
    by_packets: bool

    def level(self, value: float) -> Level:
        return "CRITICAL" if value > self.critical else "WARNING" if value > self.warning else "OK"

    def performance(self, *, age: float | None, packets: int | None = None) -> str:
        """In the form of Nagios; what is measured comes with the limits."""
        mine = f"{self.warning:g};{self.critical:g}"
        told = []
        if age is not None:
            told.append(f"age={age:.0f}s;{';' if self.by_packets else mine};0")
        if packets is not None:
            told.append(f"packets={packets};{mine if self.by_packets else ';'};0")
        return " ".join(told)


def _verdict_of_mirror(status: Status, mirror: Mirror, limits: _Limits) -> Verdict:
    performance = limits.performance(age=status.packet_seconds, packets=mirror.lag_packets)
    value = mirror.lag_packets if limits.by_packets else status.packet_seconds
    told = [_position(status, mirror)]
    found: list[Level] = []
    if value is not None:
        found.append(limits.level(value))
    elif limits.by_packets:
        told.append(mirror.upstream_problem or "it is not known how many packets it lacks")
    else:
        told.append("no packet was ever applied")
    if mirror.error is not None:
        # That goes away by no waiting.
        found.append("CRITICAL" if mirror.mismatch else "WARNING")
        told.append(f"the last run failed: {mirror.error}")
    if mirror.warning is not None:
        found.append("WARNING")
        told.append(f"the last run went well, but: {mirror.warning}")
    if mirror.paused:
        found.append("WARNING")
        told.append("it is paused")
    elif not mirror.running:
        # As it should be where a timer starts it.
        told.append("no sync runs at this moment")
    return Verdict(_worst(found, known=value is not None), "; ".join(told), performance)


def _verdict_of_master(master: Master, limits: _Limits) -> Verdict:
    if limits.by_packets:
        return Verdict("UNKNOWN", "a master lacks no packets: --packets is for mirrors")
    performance = limits.performance(age=master.pending_seconds or 0.0)
    told = ["no packet was published yet" if master.published is None else f"packet {master.published} is published"]
    found: list[Level] = []
    if master.pending_seconds is not None:
        found.append(limits.level(master.pending_seconds))
        told.append(f"the oldest change that is in none is {span(master.pending_seconds)} old")
    if master.error is not None:
        found.append("WARNING")
        told.append(f"the last export failed: {master.error}")
    if master.store_problem is not None:
        # Without it there will be no packet, however young the changes are.
        found.append("CRITICAL")
        told.append(f"the packet store cannot be used: {master.store_problem}")
    if not master.scheduled:
        found.append("WARNING")
        told.append("no scheduler runs, so nothing is exported by itself")
    return Verdict(_worst(found, known=True), "; ".join(told), performance)


def _position(status: Status, mirror: Mirror) -> str:
    if status.replication_sequence is None:
        return "replication has not begun"
    age = "" if status.packet_seconds is None else f" is {span(status.packet_seconds)} old"
    behind = "" if mirror.lag_packets is None else f", {mirror.lag_packets} behind"
    return f"packet {status.replication_sequence}{age}{behind}"


def _worst(found: list[Level], *, known: bool) -> Level:
    """What is known to be bad is told, although something else is not known."""
    if "CRITICAL" in found:
        return "CRITICAL"
    if "WARNING" in found:
        return "WARNING"
    return "OK" if known else "UNKNOWN"
