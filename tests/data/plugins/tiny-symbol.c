/* A symbol of the right name with fewer bytes than it claims: reading on would leave the object. */
const unsigned gantry_plugin_v1 = 80;
