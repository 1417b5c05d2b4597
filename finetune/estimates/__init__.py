"""What a run or a study will need: memory on each device, updates and hours, before any weight is loaded."""
