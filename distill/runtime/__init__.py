"""What computes where: processes, devices and their leases, signals."""
