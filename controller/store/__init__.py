"""Where the controller keeps runs, telemetry, schedules and the audit. Nothing outside knows which database it is."""
