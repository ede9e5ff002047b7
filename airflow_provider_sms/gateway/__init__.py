"""The platform's wire: client, answers, errors, phones, texts, times. Knows neither Airflow nor SQL.

Nothing is imported here, so that importing one module costs one module.
"""
