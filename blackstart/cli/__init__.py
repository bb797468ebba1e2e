"""The operator's command line. Modules import what they need inside their commands: `--help` stays quick."""
