"""The SMS provider for Apache Airflow that speaks to the 中昱维信 (10658) platform."""
