def handler(context, event):
    return context.Response(body=event.body, content_type=event.content_type, headers={"x-bytes": event.size})
