return { now, sweep(SWEEP) and 1 or 0 }
