"""What a device is made of besides its radio: compute speed, clock, battery, and when it is down."""
