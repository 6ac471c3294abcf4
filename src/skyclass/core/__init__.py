"""What every room uses: errors, messages, files, processes; it knows none of them."""
