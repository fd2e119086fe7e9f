"""Aligning audio of any length with its transcript: when was each word said, and which were not."""
