"""Planning: memory, operations, time and layout of a run of any size, by arithmetic alone."""
