# A function that hears who joins. Changes:
# - The first two lines: the printed fragment supposes a worker.
# - `register_function('onJoin', …)` for `register_function({'id': 'onJoin'}, …)`: the published SDK takes the id as text.
from iii import register_worker
iii = register_worker('ws://localhost:49134')

def on_join(input):
    print('Joined stream', input)
    return {}

iii.register_function('onJoin', on_join)
iii.register_trigger({'type': 'stream:join', 'function_id': 'onJoin', 'config': {}})
