"""Account: finished exchanges go to SQLite, written by one thread; and the questions that are asked of them."""
