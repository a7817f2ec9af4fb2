"""What one run does: messages and results become events, workflow tasks become commands."""
