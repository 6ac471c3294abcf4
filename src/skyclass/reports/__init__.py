"""The report and the model card of a run, one section a module; they are made from files, nothing is computed again."""
