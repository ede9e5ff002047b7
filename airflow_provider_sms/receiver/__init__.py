"""What the platform pushes to: one ASGI app, mounted in Airflow's API server or on its own."""
