"""The commands, one file each: artefact in, artefact out."""
