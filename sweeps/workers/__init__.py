"""Running trials: the exchange, the warm worker groups, and what happens inside a worker."""
