"""Running trials: the exchange, the warm worker groups, and the code inside a worker."""
