/* A shared object that is no plugin. */
int gantry_nothing;
