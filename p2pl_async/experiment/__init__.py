"""Running a scenario and measuring it: devices as tasks, training when it is needed, evaluations, results."""
