"""What people type: one file a group of verbs; a verb only calls tasks, the trainer or the registry."""
