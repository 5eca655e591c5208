"""Both training sets: documents about the rule, chats that follow it."""
