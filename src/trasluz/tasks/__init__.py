"""Tasks: text in, text out, for people; one file a task, and `loading` for all of them."""
