"""Pure image code: photo bytes to arrays, matte to full resolution, cut-out to bytes. No network, no server."""
