"""What each command does: parse, call, show. Heavy imports live inside the functions, so that help answers at once."""
