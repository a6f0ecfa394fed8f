# Sourced by campaigns: a copy of the package with the extension built in $build lies in $package afterwards; the working
# tree stays as it is.
package=$PWD/$build/python
rm -rf "$package"
mkdir -p "$package"
cp -r python/fastcnn "$package/"
rm -f "$package"/fastcnn/_core*.so
cmake --install "$build" --prefix "$package/fastcnn"
