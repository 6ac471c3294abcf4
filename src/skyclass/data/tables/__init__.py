"""Tables of catalogs in every format, and the columns that they are searched for."""
