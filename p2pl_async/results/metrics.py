COSTS = ("bytes_on_air", "seconds_on_air", "energy_j")
