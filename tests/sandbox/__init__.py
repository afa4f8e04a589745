"""End to end, on a sandbox as a person has it. Left out: whole drills, which the marker `drill` keeps for the night."""
