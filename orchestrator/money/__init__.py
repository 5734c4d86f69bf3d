"""What GPUs cost: prices, plans, budgets, and what goes first before all of them are rented."""
