"""What Omium knows of each framework: one file each, which is read only once a program imports that framework."""
