"""Advisory locks of the database, by which the bridge, its standby and the writers know of each other."""

# 'mbev' in ASCII, so that who finds one in pg_locks can tell whose it is (as classid).
_OURS = 0x6D626576 << 32

# Held by the bridge while it looks by itself every few milliseconds: writers need not wake it then.
AWAKE_KEY = _OURS | 1
# Held by the one bridge that leads.
LEADER_KEY = _OURS | 2
# Held by who exports packets of this master.
EXPORT_KEY = _OURS | 4
# Held by the one scheduler that sends scheduled work.
SCHEDULER_KEY = _OURS | 5
# Held by who applies packets to this mirror.
SYNC_KEY = _OURS | 6
