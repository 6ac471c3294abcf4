"""What the commands do, step by step: imported when a command runs, not when its help is shown."""
