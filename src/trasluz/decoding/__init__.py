"""Searches: from a step function to ids; they know no model and no text."""
