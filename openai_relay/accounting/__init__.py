"""What the service knows of its clients' use, kept beyond its own life: limits, budgets and the ledger, wired."""
