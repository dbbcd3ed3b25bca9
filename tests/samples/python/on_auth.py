# Authentication. Changes:
# - The first two lines: the printed fragment supposes a worker.
# - `register_function('onAuth', …)` for `register_function({'id': 'onAuth'}, …)`: the published SDK takes the id as text.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def on_auth(input):
    return {'context': {'name': 'John Doe'}}

iii.register_function('onAuth', on_auth)
