"""Who is told when something is wrong, and when it is over. See docs/alerts.md.

`facts` reads how things stand, `rules` says what is wrong with that, `services` opens and recovers alerts and writes
the messages, `delivery` sends them by e-mail and, through `webhooks`, by signed requests.
"""
