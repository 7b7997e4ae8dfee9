"""The tunnels that are measured, a module for each program that makes them."""
