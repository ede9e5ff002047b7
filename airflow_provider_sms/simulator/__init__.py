"""The 中昱维信 (10658) platform on this machine: for demos, tests and dry runs. Nothing is really sent.

It is written from the platform's interface document alone and must not import `gateway`: a simulator that
shares the client's parsing can not find the client's mistakes. It knows neither Airflow nor SQL.
"""
