"""One file a verb: artefact in, artefact out."""
