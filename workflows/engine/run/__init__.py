"""The processing of one run: messages and results become events, workflow tasks give commands."""
