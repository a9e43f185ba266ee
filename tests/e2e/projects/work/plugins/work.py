"""Steps of the test project."""


def echo(ctx, **given):
    return given


def never_yields(ctx):
    ctx.log.info("off it goes")
    while True:
        pass
