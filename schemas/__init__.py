"""What crosses a boundary: frozen models of every event's data, by subject, and their generated JSON Schemas."""
