"""The live service: demand comes in minute by minute; forecasts, plans and a page go out. It has clock and clients."""
