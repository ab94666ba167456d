"""`mbevents demo`: real edits in a real MusicBrainz database, watched from COMMIT to their effects.

`story` says what happens, `edits` does it in SQL as MusicBrainz Server does, `observe` waits for the effects, `effects`
is what they are (pure), `faults` what is broken on purpose, `place` where it runs, `screen` what is shown.
"""
