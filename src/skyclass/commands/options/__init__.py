"""How the command line writes the arguments of commands, and the options that several commands share."""
