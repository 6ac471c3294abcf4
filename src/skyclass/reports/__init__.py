"""What the report and the model card of a run say, one section a module: from files alone, nothing is computed anew."""
