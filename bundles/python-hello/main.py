def init_context(context):
    context.user_data.calls = 0


def handler(context, event):
    context.user_data.calls += 1
    context.logger.info_with("greeting", name=event.params["name"], calls=context.user_data.calls)
    greeting = f"{context.config['greeting']}, {event.params['name']}!"
    return {"text": " ".join([greeting] * event.query["times"])}
