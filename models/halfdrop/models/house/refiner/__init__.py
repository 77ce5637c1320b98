"""The hub's refiner: a preview's plates in, the same composition out on a finer grid, exact. Training and network."""
